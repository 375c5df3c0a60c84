#!/bin/sh
# Make what the hosts and the client know each other by, unless it is there: /keys/client, /keys/ssh
# and /keys/lan are volumes, so that no host sees what is not for it.
set -eu
umask 077
cd /keys

if [ ! -e client/known_hosts ]; then
    ssh-keygen -q -t ed25519 -N '' -C cluster -f ssh/ssh_host_ed25519_key
    ssh-keygen -q -t ed25519 -N '' -C client -f client/id_ed25519
    cp client/id_ed25519.pub ssh/authorized_keys
    # The ssh hosts share a key: whichever name the network gives them.
    echo "* $(cat ssh/ssh_host_ed25519_key.pub)" >client/known_hosts
fi
if [ ! -e client/credential.pem ]; then
    rm -f lan/credential.pem
    pool-spawner init --credential /keys/lan/credential.pem
    cp lan/credential.pem client/credential.pem
fi
