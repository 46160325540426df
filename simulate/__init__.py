"""A node's pool over days, in seconds: `eniplug simulate`."""
