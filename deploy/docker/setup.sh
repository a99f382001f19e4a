#!/bin/sh
# Makes, once, what the containers of compose.yml know of each other: certificates, users, passwords, a token.
# Files belong to the user of the container they are for; nobody else can read them.
#   setup.sh [FOLDER]      FOLDER is /secrets unless it is named
set -eu
secrets=${1:-/secrets}
loushan=${LOUSHAN:-loushan}

if [ -e "$secrets/done" ]; then
  echo "everything is there already"
  exit 0
fi

random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# An earlier try that was broken off is begun anew.
rm -rf "$secrets/loushan" "$secrets/influxdb" "$secrets/prometheus" "$secrets/grafana" "$secrets/certs"
umask 077
mkdir -p "$secrets/loushan" "$secrets/influxdb" "$secrets/prometheus" "$secrets/grafana"

"$loushan" certs dev --dir "$secrets/certs" --name loushan >/dev/null
cp "$secrets/certs/server.crt" "$secrets/certs/server.key" "$secrets/loushan/"
cp "$secrets/certs/ca.crt" "$secrets/prometheus/"

random >"$secrets/prometheus/password"
"$loushan" user add prometheus --role operator --password-stdin --users "$secrets/loushan/users" \
  <"$secrets/prometheus/password" >/dev/null

random >"$secrets/influxdb/token"
random >"$secrets/influxdb/password"
cp "$secrets/influxdb/token" "$secrets/loushan/influx-token"
cp "$secrets/influxdb/token" "$secrets/grafana/influx-token"
random >"$secrets/grafana/password"

# The users of the images: Loushan's, InfluxDB's, Prometheus's, Grafana's.
if [ "$(id -u)" = 0 ]; then
  chown -R 10001:10001 "$secrets/loushan"
  chown -R 1000:1000 "$secrets/influxdb"
  chown -R 65534:65534 "$secrets/prometheus"
  chown -R 472:0 "$secrets/grafana"
fi
chmod 755 "$secrets"
touch "$secrets/done"
echo "certificates, users, passwords and a token are in $secrets"
