"""Serves localstripe on a free port of the loopback interface, which it prints; its objects are in memory.

Its own command listens on all interfaces, and all its instances share one file in /tmp. What it lacks of List Events,
which `revwatch backfill` reads, is added: localstripe 1.15 answers 400 "Unexpected created" to the parameter `created`,
and lists the oldest event first. See https://docs.stripe.com/api/events/list.
"""

import socket

from aiohttp import web
from localstripe import resources, server


def list_events(cls, url, limit=None, starting_after=None, created=None):
    bounds = {name: int(second) for name, second in (created or {}).items()}
    since, until = bounds.pop('gte', 0), bounds.pop('lt', float('inf'))
    assert not bounds, bounds
    page = resources.List(url, limit=limit, starting_after=starting_after)
    events = (item for item in resources.store.values() if isinstance(item, cls))
    page._list = [event for event in events if since <= event.created < until]
    page._list.reverse()
    return page


resources.Event._api_list_all = classmethod(list_events)
resources.Store.dump_to_disk = lambda store: None

listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
web.run_app(server.app, sock=listener, access_log=None, print=None)
