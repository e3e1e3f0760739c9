"""Local gateways as strict as the vendors, with scripted faults; nothing imports them but the command line."""
