"""Where versions of the text models are kept: references, stores (folder or MLflow), promotion and rollback."""
