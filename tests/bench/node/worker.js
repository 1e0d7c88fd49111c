// Applies events like a well-tuned Node worker: a batch per partition, one commit of Redis, one acknowledgement.
import { createServer } from "node:http";
import amqplib from "amqplib";
import { Redis } from "ioredis";

const PARTITIONS = 8;
const BATCH = 64;
const redis = new Redis(process.env.REDIS_URL);
redis.defineCommand("commit", { numberOfKeys: 3, lua: process.env.COMMIT });
const connection = await amqplib.connect(process.env.AMQP_URL);
let dealtWith = 0;

async function consume(partition) {
  const channel = await connection.createChannel();
  const keys = ["marks", "entities", "counters"].map((name) => `node:{p${partition}}:${name}`);
  const waiting = [];
  let busy = false;
  const work = async () => {
    if (busy) return;
    busy = true;
    while (waiting.length > 0) {
      const batch = waiting.splice(0, BATCH);
      const entities = batch.flatMap(({ content }) => [JSON.parse(content).id, content.subarray(0, 450)]);
      await redis.commit(...keys, ...entities);
      channel.ack(batch.at(-1), true);
      dealtWith += batch.length;
    }
    busy = false;
  };
  await channel.prefetch(512);
  await channel.consume(`revwatch.events.p${partition}`, (message) => {
    waiting.push(message);
    work();
  });
}

await Promise.all(Array.from({ length: PARTITIONS }, (_, partition) => consume(partition)));
// Counts as revwatch's worker does.
const server = createServer((_, response) => response.end(`revwatch_worker_events_total{} ${dealtWith}\n`));
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ message: "listening", listen: `127.0.0.1:${server.address().port}` }));
});
process.on("SIGTERM", () => process.exit(0));
