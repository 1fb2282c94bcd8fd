"""A copy of the model in every worker, or one shared service: measured, compared, published."""
