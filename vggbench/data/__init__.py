"""What the networks are shown: seeded images, photographs in folders, CIFAR-10. No torch."""
