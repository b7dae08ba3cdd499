"""Workloads as processes of this machine: the backend of the embedded platform."""
