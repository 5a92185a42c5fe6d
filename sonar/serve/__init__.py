"""What both HTTP servers share: sockets, TLS, life cycle, identities, health."""
