"""The exporter: from a backbone to files that ship (workstation side)."""
