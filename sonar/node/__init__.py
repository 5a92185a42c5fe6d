"""The node side: sampling (sonard) and delivery (exfiltrate)."""
