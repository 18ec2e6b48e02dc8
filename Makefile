# What one types.  Meson does the building; this file brings the tools in, then calls it.
#
#   make               build the library, the command and the nbdkit plugin into build/
#   make demo          show the main job on a real file system; IMAGE=file takes your own disk (works on a copy)
#   make check         every test, in under 20 minutes on two processors
#   make check-long    the random tests for hours: HOURS=8
#   make fuzz          each fuzzer for a while: SECONDS_EACH=60
#   make install       PREFIX=/usr/local, DESTDIR=
#   make static        the command as one file without shared libraries, build-static/tools/vhdx/vhdx
#   make deb           Debian packages, in build-deb/
#   make clean

BUILD        = build
PREFIX       = /usr/local
IMAGE        =
HOURS        = 8
SECONDS_EACH = 60

.PHONY: all dependencies demo check check-long fuzz install static deb clean

all: dependencies
	@test -f $(BUILD)/build.ninja || meson setup -Dtests=disabled --prefix=$(PREFIX) $(BUILD) >$(BUILD).log 2>&1 || \
	    { cat $(BUILD).log; rm -rf $(BUILD); exit 1; }
	@rm -f $(BUILD).log
	@ninja --quiet -C $(BUILD)

dependencies:
	@scripts/install-deps.sh build

demo:
	@scripts/install-deps.sh demo
	@$(MAKE) --no-print-directory all
	@scripts/demo.sh $(BUILD) "$(IMAGE)"

check:
	@scripts/install-deps.sh check
	@scripts/check.sh

check-long:
	@scripts/install-deps.sh check
	@HOURS=$(HOURS) scripts/check.sh long

fuzz:
	@scripts/install-deps.sh check
	@SECONDS_EACH=$(SECONDS_EACH) scripts/check.sh fuzz

install: all
	@meson configure -Dprefix=$(PREFIX) $(BUILD) && meson install -C $(BUILD)
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" -eq 0 ]; then ldconfig; fi

static:
	@scripts/install-deps.sh build
	@test -f build-static/build.ninja || meson setup -Dstatic_command=true -Dtests=disabled -Dnbdkit=disabled -Dfuse=disabled \
	    -Dext=disabled -Dntfs=disabled -Dnbd=disabled -Dpython=disabled build-static >build-static.log 2>&1 || \
	    { cat build-static.log; rm -rf build-static; exit 1; }
	@rm -f build-static.log
	@ninja --quiet -C build-static tools/vhdx/vhdx
	@ls -l build-static/tools/vhdx/vhdx

deb:
	@scripts/install-deps.sh package
	@scripts/make-deb.sh

clean:
	rm -rf $(BUILD) build-check build-deb build-static
