"""The batching service: requests of many clients become batches of one potential."""
