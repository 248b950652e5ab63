# docker build --tag alibench .                              for CPUs
# docker build --tag alibench --build-arg TORCH=cu130 .      for NVIDIA's GPUs: docker run --gpus all
# docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD/runs:/home/bench/runs" alibench run digits
FROM python:3.13-slim

# first and alone, because it is large and seldom changes
ARG TORCH=cpu
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" torch torchvision

# the build writes into the sources, which the image does not keep
RUN --mount=type=bind,target=/source,rw pip install --no-cache-dir /source

# any user may run it: a mounted folder belongs to whoever made it
RUN useradd --create-home --uid 1000 bench && install -d -m 777 /home/bench /home/bench/runs /home/bench/data
ENV HOME=/home/bench USER=bench ALIBENCH_DATA=/home/bench/data
USER bench
WORKDIR /home/bench

ENTRYPOINT ["alibench"]
CMD ["--help"]
