"""Key services: where the keys that wrap keys are, when they are not in a file of this machine."""
