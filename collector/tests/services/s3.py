"""S3 in memory, by moto, with one bucket; says its port. Who doesn't show the key `collector` is turned away."""

import logging
import sys

from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
WSGIRequestHandler.protocol_version = "HTTP/1.1"  # connections stay, as with the real one
moto = DomainDispatcherApplication(create_backend_app)
REFUSAL = b"<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>unknown key</Message></Error>"


def answer(environ, start_response):
    if "Credential=collector/" in environ.get("HTTP_AUTHORIZATION", ""):
        return moto(environ, start_response)
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSAL)))])
    return [REFUSAL]


s3_backends["123456789012"]["aws"].create_bucket("water", "us-east-1")
server = make_server("127.0.0.1", int(sys.argv[1]), answer, threaded=True)
print("port", server.port, flush=True)
server.serve_forever()
