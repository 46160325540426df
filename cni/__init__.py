"""The CNI protocol: executable, wire, conflists, and the runtime's side of it."""
