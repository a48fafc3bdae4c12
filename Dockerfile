# Two images of Skiff, from the released program (make dist) or from the one
# that PROGRAM names. docs/install.md says what each can do and how to run it.
#
#   docker build -t skiff .                       the one file, and nothing else
#   docker build --target node -t skiff-node .    and the programs that a node needs

FROM debian:bookworm-slim AS node
RUN apt-get update && \
    apt-get install -y --no-install-recommends ca-certificates conntrack iptables kmod mount nftables && \
    rm -rf /var/lib/apt/lists/*
ARG TARGETARCH=amd64
ARG PROGRAM=dist/skiff-linux-${TARGETARCH}
COPY --chmod=0755 ${PROGRAM} /bin/skiff
VOLUME /var/lib/skiff /var/lib/kubelet /var/log
EXPOSE 6443 10250
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/skiff"]
CMD ["server"]

FROM scratch AS control-plane
ARG TARGETARCH=amd64
ARG PROGRAM=dist/skiff-linux-${TARGETARCH}
COPY --chmod=0755 ${PROGRAM} /bin/skiff
ENV PATH=/bin
WORKDIR /tmp
WORKDIR /
VOLUME /var/lib/skiff
EXPOSE 6443
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/skiff"]
CMD ["server", "--disable-agent"]
