"""Transfer-learning-first AutoML for people who have few labels."""
