"""What lies under every HTTP surface: server and TLS, limits, deadlines, auth, problem details."""
