# twotower as an image that needs nothing but credentials and a config. Each stage is one command of scripts/image.sh, which
# `make image-root` runs where there is no container engine.
#
#     docker build -t registry.example.org/twotower:0.1.0 .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN scripts/image.sh build /out release

FROM debian:bookworm-slim
COPY scripts/image.sh /tmp/image.sh
RUN /tmp/image.sh runtime && rm /tmp/image.sh
COPY --from=build /out/twotower /usr/local/bin/twotower
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["twotower"]
