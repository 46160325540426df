"""A node's pool over weeks of pods, in a minute: what a policy holds and asks for."""
