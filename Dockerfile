# The image of edgeproxy: its virtual environment on top of a base that has Python, and nothing else. docs/container.md says how to build and run it.
#
# The base is an argument: any image with Python 3.11 or newer, glibc 2.28 or newer and certificates of authorities. The last stage runs nothing
# while it is built, so a base without a shell does too; then BUILD_BASE names one with a shell and the same Python at the same path.
# The default is a tag, not a digest, so that every build takes the security updates of its day; whoever wants the same bytes again gives a digest.
ARG BASE=python:3.13-slim-bookworm
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
# Asked by pip where they are given: another index, or none because all wheels lie in the folder `wheels`.
ARG PIP_INDEX_URL
ARG PIP_NO_INDEX
# What would make two builds differ: the salt of Python's hashes, and times.
ARG SOURCE_DATE_EPOCH=315532800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0 SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
WORKDIR /build
COPY requirements/build.txt requirements/container.txt wheels* locked/
# The SDK describes all services of AWS; the store is S3, and the chain of credentials asks four more. Tests, and what is only read when something is
# compiled against a package, go too. Bytecode is made here, as nothing can be written where the image runs; it holds no times.
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/edgeproxy \
 && tools/bin/pip install --require-hashes --only-binary :all: --find-links locked -r locked/build.txt \
 && tools/bin/pip --python /opt/edgeproxy/bin/python install --require-hashes --only-binary :all: --find-links locked -r locked/container.txt \
 && cd /opt/edgeproxy/lib/python3.*/site-packages \
 && find botocore/data -mindepth 1 -maxdepth 1 -type d \
    ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
 && find . -mindepth 2 -type d \( -name test -o -name tests -o -name include \) -prune -exec rm -r {} + \
 && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' \) -delete \
 && /opt/edgeproxy/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PWD" \
 && find /opt/edgeproxy -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} +
COPY LICENSE README.md pyproject.toml ./
COPY edgeproxy edgeproxy
# Only what is new is touched: to touch a file of an earlier layer is to store it again.
RUN tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
 && tools/bin/pip --python /opt/edgeproxy/bin/python install --no-index --no-deps --find-links dist edgeproxy \
 && /opt/edgeproxy/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/edgeproxy/lib/python3.*/site-packages/edgeproxy \
 && mkdir /var/lib/edgeproxy \
 && find /opt/edgeproxy /var/lib/edgeproxy -newermt @${SOURCE_DATE_EPOCH} -exec touch --no-dereference --date=@${SOURCE_DATE_EPOCH} {} +

FROM ${BASE}
COPY --from=build /opt/edgeproxy /opt/edgeproxy
# A named volume that is mounted here for the first time belongs to the user below.
COPY --from=build --chown=65532:65532 /var/lib/edgeproxy /var/lib/edgeproxy
# The one setting that the image makes: the default, loopback, could not be reached from outside of the container.
ENV PATH=/opt/edgeproxy/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 EDGEPROXY_BIND=0.0.0.0:5000
# `edgeproxy.toml` is read from here, if it is there.
WORKDIR /etc/edgeproxy
USER 65532:65532
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["/opt/edgeproxy/bin/edgeproxy", "health"]
ENTRYPOINT ["/opt/edgeproxy/bin/edgeproxy"]
CMD ["serve"]
# Last, so that another revision of the same files shares their layers.
ARG VERSION=0.1.0
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="edgeproxy" \
      org.opencontainers.image.description="A container registry without passwords and without an egress bill" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
