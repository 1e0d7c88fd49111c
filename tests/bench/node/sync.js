// Keeps Stripe's objects in PostgreSQL with a well-known sync engine, as its documentation shows: express in front.
// It responds when PostgreSQL has committed; unknown events are ignored.
import { createRequire } from "node:module";
import express from "express";

// As an ES module, version 0.48 does not find its migrations.
const { runMigrations, StripeSync } = createRequire(import.meta.url)("@supabase/stripe-sync-engine");
const connectionString = process.env.POSTGRES_URL;
await runMigrations({ databaseUrl: connectionString, schema: "stripe" });
const sync = new StripeSync({
  poolConfig: { connectionString, max: 10 },
  stripeSecretKey: "sk_test_of_the_benchmark",
  stripeWebhookSecret: process.env.STRIPE_WEBHOOK_SECRET,
});

const app = express().disable("etag").disable("x-powered-by");
app.post("/webhooks/stripe", express.raw({ type: "application/json" }), async (request, response) => {
  try {
    await sync.processWebhook(request.body, request.headers["stripe-signature"]);
  } catch (error) {
    if (error.message !== "Unhandled webhook event") {
      console.error(error.message);
      response.sendStatus(400);
      return;
    }
  }
  response.json({ received: true });
});
const server = app.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ message: "listening", listen: `127.0.0.1:${server.address().port}` }));
});
process.on("SIGTERM", () => process.exit(0));
