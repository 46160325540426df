"""Figures, as ratios of what was measured in one run on one machine."""
