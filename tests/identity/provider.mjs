// A certified OpenID provider as the tests drive it: node provider.mjs PORT ALGORITHM
//
// PORT 0 takes any. Every start makes keys of its own, so a restart on the same port is a rotation. One line of JSON on standard
// output says where it is; the end of standard input ends it.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const [port, algorithm] = process.argv.slice(2);

const SECRET = 'secret-of-the-tests';
const AUDIENCE = 'registry.example';
const SECONDS = 300;

// Who can get a token, and the groups that it tells.
const CLIENTS = {
  deployer: ['developers', 'oncall'],
  reader: ['readers'],
};

const KINDS = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

function key(name) {
  const [kind, options] = KINDS[name];
  const jwk = generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' });
  return { ...jwk, kid: randomUUID(), alg: name, use: 'sig' };
}

const server = createServer();
server.listen(Number(port), '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const keys = [...new Set([algorithm, 'RS256'])].map(key);
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: Object.keys(CLIENTS).map((client_id) => ({
      client_id,
      client_secret: SECRET,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
    })),
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          audience: AUDIENCE,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: SECONDS,
          jwt: { sign: { alg: algorithm } },
        }),
      },
    },
    extraTokenClaims: (_, token) => ({ groups: CLIENTS[token.clientId] }),
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer, kids: keys.map(({ kid }) => kid) }));
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
