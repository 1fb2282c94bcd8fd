"""Who asks the text models from outside: HTTP, Kafka, Spark, and the replies that they share."""
