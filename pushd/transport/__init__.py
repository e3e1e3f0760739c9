"""Bytes to and from gateways: links, pools of links, names and addresses."""
