"""The process of one model whose code must not run in the data plane: user code, and runtimes that are not `inline`.

It inherits one socket and nothing else of the platform: no key, no credential, no environment but the service's own.
"""
