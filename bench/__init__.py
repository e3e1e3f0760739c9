"""One benchmark per layer, one end to end; `python -m bench NAME [--quick] [--json]` runs one."""
