# frozen_string_literal: true

require "strscan"
require "sidekiq_bridge/sidecar/stream/frame"
require "sidekiq_bridge/sidecar/stream/seal"

module SidekiqBridge
  module Sidecar
    # Turns the bytes of a stream into frames, across any cuts on their way.
    class FrameParser
      # An invalid line: the parser cannot know where the next frame begins.
      class Malformed < StandardError; end

      LINE_BYTES = 4096
      # Number, bytes, identity, token, time of the claim, recoveries, queue; then what the worker wants to know, and traces.
      JOB = %r{\AE (\d{1,19}) (\d{1,15}) ([^\s/]{1,255}) (\d{1,20}) (\d{1,19}) (\d{1,9}) (\S+)(?: (track|value))?(?: (traceparent=\S+))?\z}
      PROBE = /\AP (\d{1,19}) 0\z/

      # `seal` checks the code of each frame; nil without a secret.
      def initialize(max_body:, seal: nil)
        @max_body = max_body
        @seal = seal
        @buffer = +"".b
        @chunk = +"".b
        @line = StringScanner.new("") # makes fewer objects than a match
        @position = 0
        @frame = nil    # the frame whose body is incomplete
        @missing = 0    # missing bytes of that body
      end

      # Reads available bytes from `socket`, or waits for some; raises EOFError at the end of the stream.
      def read_from(socket)
        return read_into_empty_buffer(socket) if @position == @buffer.bytesize
        socket.read_into(@chunk)
        drop_consumed
        @buffer << @chunk
      end

      # Yields the complete frames.
      def each_frame
        while (frame = next_frame)
          yield frame
        end
      end

      private

      # The buffer is empty now, so nothing needs to be moved.
      def read_into_empty_buffer(socket)
        @position = @buffer.bytesize # an exception here must also leave an empty rest
        socket.read_into(@buffer)
        @position = 0
      end

      # Drops consumed bytes only when there are some: otherwise each piece of a large body would copy it.
      def drop_consumed
        return if @position.zero?
        @buffer = @buffer.byteslice(@position, @buffer.bytesize)
        @position = 0
      end

      def next_frame
        @frame ||= next_head
        return unless @frame && (@frame.too_large? ? discarded? : body_taken?)
        raise Malformed, "a frame with a wrong code" unless @seal.nil? || @seal.fits?(@tag)
        @frame.tap { @frame = nil }
      end

      def next_head
        finish = @buffer.index("\n", @position)
        return check_length(@buffer.bytesize - @position) unless finish
        check_length(finish - @position)
        line = @buffer.byteslice(@position, finish - @position)
        @position = finish + 1
        head(@seal ? unsealed(line) : line)
      end

      # Returns the line without its code, which the parser compares once the body is complete.
      def unsealed(line)
        @tag, bare = line.byteslice(0, Seal::TAG_LENGTH), line.byteslice((Seal::TAG_LENGTH + 1)..)
        raise Malformed, "a frame without a code" unless bare && line.getbyte(Seal::TAG_LENGTH) == 32
        @seal.start(bare)
        bare
      end

      def check_length(bytes)
        raise Malformed, "a line of more than #{LINE_BYTES} bytes" if bytes > LINE_BYTES
      end

      def head(line)
        line.force_encoding(Encoding::UTF_8)
        line.scrub! unless line.valid_encoding?
        @line.string = line
        return probe unless @line.skip(JOB)
        @missing = @line[2].to_i
        limit = @max_body if @missing > @max_body
        Frame.new(@line[1], @line[3], @line[4].to_i, @line[5].to_i, @line[6].to_i, @line[7], limit, @line[8], @line[9])
      end

      def probe
        raise Malformed, "a line that is not a frame" unless @line.skip(PROBE)
        @missing = 0
        Frame.new(@line[1])
      end

      def body_taken?
        return false if @buffer.bytesize - @position < @missing
        body = @buffer.byteslice(@position, @missing)
        @seal&.update(body)
        @frame.body = body
        @position += @missing
        true
      end

      def discarded?
        here = [@buffer.bytesize - @position, @missing].min
        @seal&.update(@buffer.byteslice(@position, here))
        @position += here
        @missing -= here
        @missing.zero?
      end
    end
  end
end
