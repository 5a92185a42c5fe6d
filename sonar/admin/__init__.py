"""Running an installation: what its state is, what troubles it, who is told, and how clusters come and go."""
