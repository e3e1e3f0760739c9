"""Shapes: a Message as the client SDKs of other vendors read it, for devices that are registered with one."""
