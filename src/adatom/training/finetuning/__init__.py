"""Fine-tuning: a potential that was trained before, trained further on other data."""
