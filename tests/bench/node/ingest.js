// Receives Stripe's webhooks like a typical Node service: express, Stripe's library, amqplib with confirms.
import { createHash } from "node:crypto";
import amqplib from "amqplib";
import express from "express";
import Stripe from "stripe";

const PARTITIONS = 8n;
const secret = process.env.STRIPE_WEBHOOK_SECRET;
const stripe = new Stripe("sk_test_of_the_benchmark");
const connection = await amqplib.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();

function partitionOf(id) {
  return createHash("sha256").update(id).digest().readBigUInt64BE() % PARTITIONS;
}

function publish(event, body) {
  const properties = { persistent: true, mandatory: true, messageId: event.id, type: event.type };
  return new Promise((resolve, reject) => {
    const confirmed = (error) => (error ? reject(error) : resolve());
    channel.publish("revwatch.intake", `p${partitionOf(event.id)}`, body, properties, confirmed);
  });
}

const app = express().disable("etag").disable("x-powered-by");
app.post("/webhooks/stripe", express.raw({ type: "application/json" }), async (request, response) => {
  let event;
  try {
    event = stripe.webhooks.constructEvent(request.body, request.headers["stripe-signature"], secret);
  } catch {
    response.sendStatus(400);
    return;
  }
  try {
    await publish(event, request.body);
    response.json({ status: "stored" });
  } catch {
    response.sendStatus(503);
  }
});
const server = app.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ message: "listening", listen: `127.0.0.1:${server.address().port}` }));
});
process.on("SIGTERM", () => process.exit(0));
