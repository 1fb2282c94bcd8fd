"""Who asks the text models from outside: HTTP, Kafka and Spark."""
