"""The labels of the two text models that ship with xedge."""

TOPICS = ("business", "entertainment", "health", "politics", "science", "sports", "technology", "world")
SENTIMENT_LABELS = ("positive", "neutral", "negative")
TASKS = {"topic": TOPICS, "sentiment": SENTIMENT_LABELS}
