// Runs the audits of graphql-http against a running server and prints how each went: node graphql_audit.mjs URL
import { auditServer } from "graphql-http";

const results = await auditServer({ url: `${process.argv[2]}/graphql`, fetchFn: fetch });
console.log(JSON.stringify(results.map(({ id, name, status, reason }) => ({ id, name, status, reason: reason ?? "" }))));
