"""The command `fedhq flower`: keys, certificates and configurations of a small deployment."""
