"""Gateways: what their requests look like and what their answers mean. Each encodes and classifies, none decides."""
