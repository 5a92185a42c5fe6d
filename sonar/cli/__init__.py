"""Command lines of what people type; each verb is imported when it is asked for."""
