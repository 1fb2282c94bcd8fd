"""Training text models as a job: corpus, training, evaluation, gate, outcomes."""
