"""Many relaxations and many dynamics that advance together on one device."""
