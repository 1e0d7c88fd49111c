"""Receives Stripe's webhooks like a typical Python service: FastAPI, Stripe's library, aio-pika with confirms."""

import hashlib
import json
import os
import signal
import socket
from contextlib import asynccontextmanager

import aio_pika
import stripe
import uvicorn
from fastapi import FastAPI, Request, Response

PARTITIONS = 8
SECRET = os.environ["STRIPE_WEBHOOK_SECRET"]


def partition_of(event_id: str) -> int:
    return int.from_bytes(hashlib.sha256(event_id.encode()).digest()[:8], "big") % PARTITIONS


@asynccontextmanager
async def lifespan(app: FastAPI):
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    channel = await connection.channel(publisher_confirms=True)
    app.state.intake = await channel.get_exchange("revwatch.intake", ensure=False)
    print(json.dumps({"message": "listening", "listen": f"127.0.0.1:{port}"}), flush=True)
    yield
    await connection.close()


app = FastAPI(lifespan=lifespan)


@app.post("/webhooks/stripe")
async def webhook(request: Request) -> Response:
    body = await request.body()
    try:
        event = stripe.Webhook.construct_event(body, request.headers.get("stripe-signature"), SECRET)
    except (ValueError, stripe.SignatureVerificationError):
        return Response(status_code=400)
    message = aio_pika.Message(body, delivery_mode=2, message_id=event.id, type=event.type)
    await app.state.intake.publish(message, routing_key=f"p{partition_of(event.id)}", mandatory=True)
    return Response('{"status":"stored"}', media_type="application/json")


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen(1024)
port = listener.getsockname()[1]
server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.run(sockets=[listener])
