"""Objects to netlink and back."""
