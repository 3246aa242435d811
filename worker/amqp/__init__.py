"""The one door to RabbitMQ: nothing outside this package imports pika."""
