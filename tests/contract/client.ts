// One lease from its request to its end, by a client whose types come from openapi.yaml: what an orchestrator in
// TypeScript would write. Prints what it saw as one JSON line.
//
//   node client.js BASE_URL TOKEN_FILE REQUEST_FILE
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

type Lease = components['schemas']['Lease'];
type LeaseRequest = components['schemas']['LeaseRequest'];
type Problem = components['schemas']['Problem'];

const LIMIT_MS = 60_000;
const POLL_MS = 100;

const [baseUrl, tokenFile, requestFile] = process.argv.slice(2);
if (baseUrl === undefined || tokenFile === undefined || requestFile === undefined)
  throw new Error('usage: client.js BASE_URL TOKEN_FILE REQUEST_FILE');
const token = readFileSync(tokenFile, 'utf8').trim();
const request = JSON.parse(readFileSync(requestFile, 'utf8')) as LeaseRequest;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function fail(what: string, problem: Problem | undefined): never {
  throw new Error(`${what}: ${problem ? `${problem.type}: ${problem.detail}` : 'no document'}`);
}

/** Read a lease until it is as wanted; an unchanged one costs the daemon a 304. */
async function follow(id: string, wanted: (lease: Lease) => boolean): Promise<Lease> {
  const until = Date.now() + LIMIT_MS;
  let etag: string | null = null;
  while (Date.now() < until) {
    const header: { 'If-None-Match'?: string } = etag === null ? {} : { 'If-None-Match': etag };
    const { data, error, response } = await api.GET('/v1/leases/{id}', { params: { path: { id }, header } });
    if (response.status !== 304) {
      if (data === undefined) fail('GET lease', error);
      etag = response.headers.get('ETag');
      if (wanted(data)) return data;
      if (data.state === 'terminated') throw new Error(`ended: ${data.termination?.reason}: ${data.termination?.detail}`);
    }
    await sleep(POLL_MS);
  }
  throw new Error('the lease was not as wanted in time');
}

const node = await api.GET('/v1/node');
if (node.data === undefined) fail('GET node', node.error);

const missing = await api.GET('/v1/leases/{id}', { params: { path: { id: '018f0000-0000-7000-8000-000000000000' } } });
const refused = await api.POST('/v1/leases', { body: { ...request, image: 'no-such-image' } });

const tried = await api.POST('/v1/leases', { body: request, params: { query: { dry_run: true } } });
if (tried.response.status !== 200) fail('POST lease with dry_run', tried.error);
// A client that lost the first answer would send the same again.
const once = { body: request, params: { header: { 'Idempotency-Key': randomUUID() } } };
const created = await api.POST('/v1/leases', once);
if (created.data === undefined) fail('POST lease', created.error);
const again = await api.POST('/v1/leases', once);
if (again.data === undefined) fail('POST lease again', again.error);
const { id } = created.data;
const running = await follow(id, (lease) => lease.tunnel.state === 'established');

const stats = await api.GET('/v1/leases/{id}/stats', { params: { path: { id } } });
if (stats.data === undefined) fail('GET stats', stats.error);
const page = await api.GET('/v1/leases', { params: { query: { state: 'running', limit: 200 } } });
if (page.data === undefined) fail('GET leases', page.error);

const renewed = await api.POST('/v1/leases/{id}/renewals', { params: { path: { id } }, body: { ttl_s: 7200 } });
if (renewed.data === undefined) fail('POST renewal', renewed.error);
const beaten = await api.PUT('/v1/leases/{id}/heartbeat', { params: { path: { id } } });

const released = await api.DELETE('/v1/leases/{id}', { params: { path: { id } } });
if (released.data === undefined) fail('DELETE lease', released.error);
const ended = await follow(id, (lease) => lease.state === 'terminated');
const events = await api.GET('/v1/events', { params: { query: { lease_id: id, limit: 200 } } });
if (events.data === undefined || typeof events.data === 'string') fail('GET events', events.error); // a page, no stream

console.log(
  JSON.stringify({
    version: node.data.version,
    missing: missing.error?.type,
    refused: refused.error?.errors?.map((fault) => fault.pointer),
    created: created.response.status,
    location: created.response.headers.get('Location') === `/v1/leases/${id}`,
    once: again.data.id === id,
    renewed: [renewed.response.status, renewed.data.ttl_s],
    heartbeat: beaten.response.status,
    enforcement: running.filter.enforcement,
    forwarded: stats.data.from_guest.filter((entry) => entry.verdict === 'forward').some((entry) => entry.frames > 0),
    listed: page.data.items.some((lease) => lease.id === id),
    released: released.response.status,
    reason: ended.termination?.reason,
    events: events.data.items.map((event) => event.type),
  }),
);
