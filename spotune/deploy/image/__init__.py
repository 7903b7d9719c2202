"""Builds the training image with whatever builder this machine has, and puts it into ECR."""
