"""How much load a placement takes: rates searched one by one until a deadline is missed."""
