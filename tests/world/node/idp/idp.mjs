// A company's identity provider: the npm package oidc-provider, set up for client credentials with JWT access tokens as Tableau wants them.
//
//   node idp.mjs <port>
//
// PUT /setup {clients: [{id, secret?, serviceAccount?}], claims, alg, newKey, seconds, cluster: {issuer, jwks}} sets it up, anew each time:
// `claims` are put into each token (`sub` above all; null removes one), `newKey` signs with a fresh key beside the old ones, `serviceAccount` names the
// Kubernetes ServiceAccount whose tokens are the client's, as "workload identity federation" is called elsewhere.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const resource = 'urn:tableau';
const ASSERTION = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

const pair = async (alg) => {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomUUID(), alg, use: 'sig' };
};

const keys = [];
const internal = await generateKeyPair('ES256', { extractable: true });
const internalJwk = { ...(await exportJWK(internal.publicKey)), kid: 'internal', alg: 'ES256', use: 'sig' };
let setup = { clients: [], claims: {} };
let handle;

const client = ({ id, secret }) => ({
  client_id: id,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  ...(secret
    ? { client_secret: secret, token_endpoint_auth_method: 'client_secret_basic' }
    : {
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: 'ES256',
        jwks: { keys: [internalJwk] },
      }),
});

const build = async (wanted) => {
  setup = { claims: {}, alg: 'RS256', seconds: 300, ...wanted };
  const same = keys.filter((key) => key.alg === setup.alg);
  if (setup.newKey || same.length === 0) keys.unshift(await pair(setup.alg));
  const provider = new Provider(issuer, {
    clients: setup.clients.map(client),
    jwks: { keys },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => resource,
        getResourceServerInfo: () => ({
          scope: 'tableau:content:read tableau:tasks:* tableau:tasks:run tableau:jobs:read tableau:jobs:update',
          audience: 'tableau',
          accessTokenTTL: setup.seconds,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: setup.alg, kid: keys.find((key) => key.alg === setup.alg).kid } },
        }),
      },
    },
    formats: {
      customizers: {
        jwt: (_ctx, _token, parts) => {
          parts.payload.scp = (parts.payload.scope ?? '').split(' ').filter(Boolean);
          for (const [name, value] of Object.entries(setup.claims)) {
            if (value === null) delete parts.payload[name];
            else parts.payload[name] = value;
          }
        },
      },
    },
  });
  provider.on('server_error', (_ctx, error) => console.error(error));
  provider.on('grant.error', (_ctx, error) => console.error(error.error, error.error_detail ?? ''));
  handle = provider.callback();
};

const read = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

// A ServiceAccount's token says who it is by `sub`, and knows nothing of client ids. It is verified against the cluster's keys, and the client it
// belongs to signs in with an assertion of its own.
const federate = async (form) => {
  const { payload } = await jwtVerify(form.get('client_assertion'), createLocalJWKSet(setup.cluster.jwks), {
    issuer: setup.cluster.issuer,
    audience: issuer,
  });
  const found = setup.clients.find((known) => known.serviceAccount && known.serviceAccount === payload.sub);
  if (!found || (form.has('client_id') && form.get('client_id') !== found.id)) throw new Error(`unknown ${payload.sub}`);
  const assertion = await new SignJWT({ jti: randomUUID() })
    .setProtectedHeader({ alg: 'ES256', kid: 'internal' })
    .setIssuer(found.id)
    .setSubject(found.id)
    .setAudience(issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(internal.privateKey);
  form.set('client_id', found.id);
  form.set('client_assertion', assertion);
};

const answer = (response, status, body) => {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
};

const serve = async (request, response) => {
  if (request.method === 'PUT' && request.url === '/setup') {
    await build(JSON.parse(await read(request)));
    return answer(response, 200, { issuer, jwksUrl: `${issuer}/jwks`, tokenUrl: `${issuer}/token` });
  }
  if (request.method === 'POST' && request.url === '/token' && setup.cluster) {
    const form = new URLSearchParams(await read(request));
    if (form.get('client_assertion_type') === ASSERTION) {
      try {
        await federate(form);
      } catch (error) {
        console.error(error.message);
        return answer(response, 401, { error: 'invalid_client' });
      }
    }
    request.body = form.toString();
  }
  return handle(request, response);
};

await build(setup);
createServer((request, response) => {
  serve(request, response).catch((error) => {
    console.error(error);
    answer(response, 500, { error: 'server_error' });
  });
}).listen(port, '127.0.0.1');
