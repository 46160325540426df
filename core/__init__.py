"""The engine: agent, chain, pool, store, kernel, EC2."""
