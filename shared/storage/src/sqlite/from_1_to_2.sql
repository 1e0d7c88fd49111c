-- Dead letters of format 1 move to the table that format 2 has for all deliveries outside the queue.
INSERT INTO aside (place, delivery, event_id, event_type, partition, endpoint, received_ms, traceparent, body, reason, at_ms)
    SELECT 'dead', delivery, event_id, event_type, partition, endpoint, received_ms, traceparent, body, reason, died_ms
    FROM dead ORDER BY seq;
DROP TABLE dead;
