"""What a VGG is: its configurations, its layers, its weights.

Imports nothing here: `configs`, `spec` and `layers` need the standard library alone, `vgg` and `weights` need torch.
"""
