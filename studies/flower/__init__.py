"""The command `fedhq flower`: keys, certificates and configurations of a small deployment."""

HELP = "keys, certificates and start scripts of a Flower deployment"
