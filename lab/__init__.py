"""A whole VPC on one machine: EC2, IMDS, router, nodes and pods."""
